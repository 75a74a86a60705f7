"""RRT-MIL: ``model`` holds the method, ``parts`` its layers."""
