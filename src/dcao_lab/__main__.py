"""``python -m dcao_lab``: the same as ``dcao-lab``."""

from dcao_lab.commands.cli import main

if __name__ == "__main__":
    main()
