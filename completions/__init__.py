"""The scripts that complete the command lines, for each shell in the folder that packages use."""
