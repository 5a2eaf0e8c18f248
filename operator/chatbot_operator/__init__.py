"""The chatbot operator: one pure function decides, everything else carries data to it and its decisions away."""
