#!/bin/sh
# The punway command. It starts Python isolated (-I), so that PYTHONPATH, PYTHONHOME, a sitecustomize, the user's own site
# packages or the current directory of whoever calls it bring no code into it; root calls it, too. The script that pip
# makes for an entry point starts Python without -I, and whatever it imported could only notice too late.
punway=$(/usr/bin/readlink -f -- "$0") || exit 1
python=${punway%/*}/python
[ -x "$python" ] || python=/usr/bin/python3 # Installed without a virtual environment.
exec "$python" -I -m punway.cli "$@"
