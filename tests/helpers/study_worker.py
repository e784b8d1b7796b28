"""A machine that does the tiny study: ``python -m helpers.study_worker FOLDER DATABASE_URL``."""

import sys
from pathlib import Path

from dcao_lab.study.conduct import conduct
from dcao_lab.study.folders import StudyFolder
from helpers.lab_studies import HereExecutor, silent, tiny_study

if __name__ == "__main__":
    out, url = sys.argv[1:]
    conduct(tiny_study(), StudyFolder.of(tiny_study(), Path(out)), HereExecutor(), silent(), url)
