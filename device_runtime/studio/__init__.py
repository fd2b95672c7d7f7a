"""A page on loopback: show it pictures, personalize, watch it learn, try it, go back."""
