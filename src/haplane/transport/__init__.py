"""Run a command and put a file on a machine over SSH; power it off and on."""
