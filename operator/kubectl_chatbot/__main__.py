"""`python -m kubectl_chatbot`."""

from kubectl_chatbot.cli import main

if __name__ == "__main__":
    main()
