"""Characters that look like an ASCII letter, after the data for confusable characters (UTS #39, © Unicode, Inc., Unicode License).

Only those are here that NFKD and case folding leave as another character: full-width and mathematical letters need no entry.
A character that looks like several is under the first. The table is a reduction of `confusables.txt` to the characters of usual
account names, and needs no update as long as nobody reserves a name in another script.
"""

from collections.abc import Mapping
from types import MappingProxyType

LOOKALIKES: Mapping[str, str] = MappingProxyType(
    {
        "-": "\u02d7\u06d4\u2010\u2012\u2013\u2014\u2043\u2212\u2796ⲻ",
        ".": "\u0660\u06f0\u0701\u0702ꓸ\ua60e\U00010a50",
        "_": "\u07fa",
        "a": "ɑαаᎪᗅ\u237aꓮ\U000102a0\U00016f40",
        "b": "ƅβвьᏏᏴᑲᖯᗷꓐꞵ\U00010282\U000102a1\U00010301",
        "c": "σсᏟᴄⲥꓚ\U000102a2\U00010302\U0001043d\U0001051c\U000118e9\U000118f2\U0001f74c",
        "d": "ԁᎠᏧᑯᗞᗪꓒꓓ",
        "e": "εеҽᎬ\u212e\u22ffⴹꓰꬲ\U00010286\U000118c6\U000118ce",
        "f": "ϝքᖴẝꓝꞙꬵ\U00010287\U000102a5\U00010525\U000118c2\U0001d213",
        "g": "ƍɡԍցᏀᏳᶃꓖ",
        "h": "ηнһհᎻᏂᕼⲏꓧ\U000102cf",
        "i": "ıɩɪιіӏᎥ\u2373ꙇ\U000118c3",
        "j": "ʝϳјᎫᒍꓙ",
        "k": "κкᏦᛕⲕꓗ\U00010518",
        "l": "ǀ\u05c0\u05d5\u05df\u0627\u0661\u06f1\u07caᏞᒪᛁ\u2223\u23fd\u2502ⲓⳑⵏꓡꓲ\U0001028a\U00010309\U00010320\U00010443\U00010526\U000118d2\U00016f16\U00016f28\U0001d22a\U0001e8c7",
        "m": "μϻмᎷᗰᛖⲙꓟ\U000102b0\U00010311",
        "n": "ոռⲛꓠ\U00010513",
        "o": "οоօ\u05e1\u0647\u0665\u06be\u06c1\u06d5\u06f5\u07c0\u0966\u09e6\u0a66\u0ae6ଠ\u0b66\u0be6\u0c66\u0ce6ഠ\u0d66\u0e50\u0ed0ဝ\u1040ჿዐᴏᴑⲟⵔ\u3007ꓳꬽ\U00010292\U000102ab\U0001042c\U000104ea\U00010516\U000114d0\U000118c8\U000118d5\U000118d7\U000118e0",
        "p": "ρрᏢᑭ\u2374ⲣꓑ\U00010295",
        "q": "ԛգզⵕ",
        "r": "ʀгᎡᎱᏒᖇᴦⲅꓣꭇꭈ\U000104dc\U00016f35\U0001d216",
        "s": "ƽѕտᏕᏚꓢꜱ\U00010296\U00010448\U000118c1\U00016f3a",
        "t": "τтᎢ\u22a4\u27d9ⲧꓔ\U00010297\U000102b1\U00010315\U00016f0a\U0001f768",
        "u": "ʋυսሀᑌᴜ\u222a\u22c3ꓴꞟꭎꭒ\U000104f6\U000118d8\U00016f42",
        "v": "νѵ\u05d8\u0667\u06f7Ꮩᐯᴠ\u2228\u22c1ⴸꓦꛟ\U0001051d\U00011706\U000118c0\U00016f08\U0001d20d",
        "w": "ɯѡԝաᎳᏔᴡꓪ\U0001170a\U0001170e\U0001170f\U000118e6\U000118ef",
        "x": "\u00d7χхᕁᕽ\u166d\u166eᚷ\u2573\u292b\u292c\u2a2fⲭⵝꓫꭓ\U00010290\U000102b4\U00010317\U00010322\U00010527\U000118ec",
        "y": "ɣʏγуүყᎩᎽᶌỿⲩꓬꭚ\U000102b2\U000118dc\U00016f43",
        "z": "ζᏃᴢꓜ\U000102f5\U000118c4\U000118c9\U000118e5",
    }
)
"""By the ASCII character, all that look like it."""
