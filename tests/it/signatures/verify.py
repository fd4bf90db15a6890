"""Reads cases as JSON and prints which of them are accepted."""

import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError


def accepts(case):
    try:
        Webhook(case["secret"]).verify(case["body"], case["headers"])
        return True
    except WebhookVerificationError:
        return False


print(json.dumps([accepts(case) for case in json.load(sys.stdin)]))
