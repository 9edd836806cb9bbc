"""Files, devices, network and terminal: what the other rooms need of the machine."""
