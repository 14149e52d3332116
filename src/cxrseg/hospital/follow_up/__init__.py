"""The films of a patient over time: infected fraction, extent score, and which change is larger than the noise."""
