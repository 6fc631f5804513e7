"""Language models as substrates: registered inputs, text, activations at one hook. Importing this imports no torch."""
