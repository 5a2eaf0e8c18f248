"""The Chatbot API: typed models, and the CustomResourceDefinition generated from them. No I/O."""
