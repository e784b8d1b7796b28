import subprocess
import sys

HIDE_JINJA = """
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "jinja2" else real(name, *rest)
import dcao_lab
"""


def test_a_missing_dependency_is_one_sentence_that_says_what_to_install():
    done = subprocess.run([sys.executable, "-c", HIDE_JINJA], capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last == "ImportError: dcao_lab needs the lab extra: pip install '.[lab]' in a clone (missing: jinja2)"
