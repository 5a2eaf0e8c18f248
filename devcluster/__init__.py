"""A small real Kubernetes on one Linux machine, for `make up` and the tests. It must not know the Chatbot API."""
