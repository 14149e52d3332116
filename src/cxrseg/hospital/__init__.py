"""DICOM objects for a viewer, a DICOM node beside a PACS, and the follow-up of a patient over time."""
