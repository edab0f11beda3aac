"""From YAML files and the command line to the arguments of an agent."""
