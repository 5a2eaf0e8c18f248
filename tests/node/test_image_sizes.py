"""The README's sizes are those of the images that the cluster gets."""

from devcluster.images import builder, description, sizes
from devcluster.progress import Plain


def test_the_sizes_in_the_readme_are_what_is_built() -> None:
    said = sizes.stated(sizes.README.read_text())
    built = {name: builder.build(name, Plain()).archive for name in description.usual()}
    # How well they pack is left to `make sizes`: it takes seconds.
    measured = {name: sizes.Size(path.stat().st_size, said[name].packed) for name, path in built.items()}
    assert sizes.differences({name: said[name] for name in measured}, measured) == []
