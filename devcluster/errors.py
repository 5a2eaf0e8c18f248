"""The error that devcluster shows to people: what is wrong, what helps. It must not know any part of a cluster."""


class DevClusterError(Exception):
    """Something outside the program's control is missing or in the way.

    `problem` is one sentence that names the thing; `remedy` is what the reader can do about it.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}\n  {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy
