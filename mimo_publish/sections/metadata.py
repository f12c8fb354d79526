"""Licence, languages and tags of a file, as far as the Hub's metadata allows.

The file is untrusted: values that the Hub does not know are not written to a card's YAML.
"""

import re

# Identifiers of licences: https://huggingface.co/docs/hub/repositories-licenses
NAMES = """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    openrail++ afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0
    cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0
    cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0
    cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl
    gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl openmdw-1.0
    ofl-1.1 osl-3.0 postgresql ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license fair-noncommercial-research-license
    llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 gemma intel-research h-research grok2-community unknown other
"""
LICENCES = frozenset(NAMES.split())
OTHER = "other"
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}|multilingual|code")  # ISO 639, and what the Hub has beside
TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+:/-]{0,63}")
MOST = 100  # of each


def licence(found: object) -> str:
    """The Hub's identifier of a licence; `other` for any other text."""
    name = found.strip().lower() if isinstance(found, str) else OTHER
    return name if name in LICENCES else OTHER


def languages(found: object) -> list[str]:
    """The valid language codes of a list."""
    return _matching(LANGUAGE, found)


def tags(found: object) -> list[str]:
    """The valid tags of a list."""
    return _matching(TAG, found)


def _matching(form: re.Pattern[str], found: object) -> list[str]:
    listed = found if isinstance(found, list) else []
    return [one for one in listed if isinstance(one, str) and form.fullmatch(one)][:MOST]
