"""From the feature files of other tools to a bag store."""
