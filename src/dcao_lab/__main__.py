"""``python -m dcao_lab``: the same as ``dcao-lab``."""

from dcao_lab.cli import main

if __name__ == "__main__":
    main()
