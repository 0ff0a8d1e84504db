"""Try it: simulated modalities, workstations and attackers against a real site on this machine. `python -m leadglass.lab demo`, `... relay`."""
