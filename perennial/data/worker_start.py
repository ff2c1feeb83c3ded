"""Prepares a process as a worker of Beam, which imports this module by its name as it starts."""

from perennial.tfx_compat import import_tfdv, spare_conversions

import_tfdv()
spare_conversions()
