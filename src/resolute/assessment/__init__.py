"""Judge finished networks under some suites, and go on where a killed run stopped."""

from __future__ import annotations

from resolute.assessment.curvature import errors_beside, survey, survey_folder
from resolute.assessment.measures import Survey
from resolute.assessment.run import Plan, assess, default_folder, device
from resolute.assessment.subjects import Subject, from_checkpoint, from_factory, from_name

__all__ = [
    "Plan",
    "Subject",
    "Survey",
    "assess",
    "default_folder",
    "device",
    "errors_beside",
    "from_checkpoint",
    "from_factory",
    "from_name",
    "survey",
    "survey_folder",
]
