"""Pictures of a run: the only modules that import matplotlib, and only once a picture is asked for."""
