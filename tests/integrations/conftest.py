from helpers.few_objects import few_objects

__all__ = ["few_objects"]  # for every file here
