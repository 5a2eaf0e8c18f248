"""The backend of a Chatbot: an OpenAI-compatible chat service. It must not know Kubernetes."""
