"""Why Esker answers differently: the reasons that differential cases may give, as docs/compatibility.md tells them.

Owns: the reasons. Does not own: where they hold (`differs=` of the steps), what is compared (`differential`).
"""

REASONS = {
}
