"""The experiments of DCAO: workloads, optimizers to compare, runs that resume, and the report.

Needs the extra ``lab`` (``pip install '.[lab]'`` in a clone); the library ``dcao`` itself needs torch alone.
"""

from importlib.util import find_spec

_NEEDED = ("jinja2", "numpy", "plotly", "rich", "scipy", "sklearn", "statsmodels", "typer")

_missing = [name for name in _NEEDED if find_spec(name) is None]
if _missing:
    raise ImportError(f"dcao_lab needs the lab extra: pip install '.[lab]' in a clone (missing: {', '.join(_missing)})")
