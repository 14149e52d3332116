"""The DICOM node: receives radiographs, segments them, sends the objects back. Nothing is lost where it is killed."""
