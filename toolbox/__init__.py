"""toolbox: runs the tools of the agents, in processes of their own."""
