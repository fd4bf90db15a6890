"""Runs every check of scim2-tester against one directory and says how each ended.

Called with the directory's SCIM base URL; the token comes from SCIM_TOKEN. Prints one JSON object a
line: the check, the resource type, the status, and why.
"""

import json
import os
import sys

from httpx2 import Client
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_tester import check_server


def main() -> None:
    headers = {"Authorization": f"Bearer {os.environ['SCIM_TOKEN']}"}
    with Client(base_url=sys.argv[1], headers=headers, timeout=60) as http:
        for result in check_server(SyncSCIMClient(http)):
            line = {
                "check": result.title,
                "resource": result.resource_type,
                "status": result.status.name,
                "reason": result.reason,
            }
            print(json.dumps(line))


if __name__ == "__main__":
    main()
