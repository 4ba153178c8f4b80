"""From a folder of somebody's files to a configuration: which table is what, which column is what, and why."""
