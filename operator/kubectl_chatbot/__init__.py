"""`kubectl chatbot`: what people do with Chatbots in a terminal. It must not be imported by the operator."""
