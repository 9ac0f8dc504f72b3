"""One thread for each operation of OpenMP and BLAS: imported first by what serves requests.

Requests run side by side; an operation that spreads over all cores takes them from the others, and
its threads spin while they wait. These libraries read the environment once, when they are loaded,
and threads that Python starts later know nothing of what is set by a call. What the environment
says already is left as it is.
"""

import os

for _name, _value in {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
}.items():
    os.environ.setdefault(_name, _value)
