"""What the document cannot say: a page begins at a cursor or at an offset, not at both."""

import schemathesis


@schemathesis.hook
def filter_case(context, case):
    return not {"cursor", "offset"} <= set(case.query or {})
