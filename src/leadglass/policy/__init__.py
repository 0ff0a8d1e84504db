"""May they? Flows become permits, the site file's own promises are proven, containment acts within a second. Security decisions live here only."""
