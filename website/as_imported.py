"""The library as mkdocstrings reads it: docstrings in its dialect, and functions that have the name of their file."""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^( *)Example:$", re.MULTILINE)
ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`([^`]+)`")


class AsImported(griffe.Extension):
    """Rewrites each docstring once, when the library is read, and puts names where an import finds them."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Let ``dcao.replay`` be the function that ``import dcao`` gives, and not the file of that name."""
        for name, module in pkg.modules.items():
            if name in (pkg.exports or ()) and name in module.members:
                for member in module.members.values():
                    if not member.is_alias:
                        self.on_object(obj=member)  # griffe no longer comes by here
                pkg.set_member(name, griffe.Alias(name, module.members[name], parent=pkg))

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Make ``Example:`` the section ``Examples:``, and ``:func:`name``` a link to its entry, if it has one."""
        if obj.docstring is not None:
            text = EXAMPLE.sub(r"\1Examples:", obj.docstring.value)
            obj.docstring.value = ROLE.sub(r'<autoref identifier="\1" optional>`\1`</autoref>', text)
