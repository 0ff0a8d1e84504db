"""May this operator change the site? Until people are enrolled: root, the owner of the site's directory, and who the site file names."""

from __future__ import annotations

from leadglass.site.model import Site
from leadglass.terms import Change, ChangePermit, Containment, NotPermitted


def authorise(site: Site, containment: Containment, change: Change, owner_uid: int) -> ChangePermit:
    """Raises NotPermitted."""
    operator = change.operator
    if operator.uid == 0:
        return ChangePermit(operator, "operator:root", containment.generation)
    if operator.uid == owner_uid:
        return ChangePermit(operator, "operator:owner", containment.generation)
    if operator.name in site.operators or str(operator.uid) in site.operators:
        return ChangePermit(operator, "operator:named", containment.generation)
    raise NotPermitted(
        f"{operator.name} is no operator of this site: name them in [site] operators, then `leadglass apply`"
    )
