"""``python -m fbkit``, which torchrun uses too."""

from fbkit.cli import main

if __name__ == "__main__":
    main()
