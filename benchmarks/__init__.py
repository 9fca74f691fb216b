"""Speed of EDCO as ratios: each against a reference measured in the same run."""
