//! Other launchers, against the attacks whose outcome does not depend on timing.
