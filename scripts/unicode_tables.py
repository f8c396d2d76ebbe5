#!/usr/bin/env python3
"""Writes engine/tokenizer/unicode_tables.cpp: what the `tokenizers` package takes each character for.

Ids depend on where text is split and how it is normalized, and the package's parts follow different
editions of Unicode: its regular expressions 16 (Oniguruma 6.9.10), its normal forms 9, its digits and
lower case 17 (Rust). So the tables are made by asking it about every character.

  pip install tokenizers==0.23.3 unicodedata2
  scripts/unicode_tables.py > engine/tokenizer/unicode_tables.cpp
"""
import unicodedata2
from tokenizers import Regex, normalizers, pre_tokenizers

CATEGORIES = ("Cc Cf Cn Co Cs Ll Lm Lo Lt Lu Mc Me Mn Nd Nl No Pc Pd Pe Pf Pi Po Ps Sc Sk Sm So "
              "Zl Zp Zs").split()
CODES = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
TEXT = "".join(map(chr, CODES))


def kept_by(pre_tokenizer):
    pieces = pre_tokenizer.pre_tokenize_str(TEXT)
    return {CODES[i] for _, (begin, end) in pieces for i in range(begin, end)}


def in_category(name):
    return kept_by(pre_tokenizers.Split(Regex(r"\p{%s}" % name), "removed", invert=True))


def later_than_nfc():
    """Characters that take part in some normal form, but not in the package's."""
    apply = {form: getattr(normalizers, form)().normalize_str for form in ("NFC", "NFD", "NFKD")}
    later, parts = set(), set()
    for code in CODES:
        character = chr(code)
        newest = unicodedata2.normalize("NFKD", character)
        if newest != character and apply["NFKD"](character) == character:
            later.add(code)
            if not unicodedata2.decomposition(character).startswith("<"):
                parts.update(map(ord, unicodedata2.normalize("NFD", character)))
        order = unicodedata2.combining(character)
        swapped = character + "\u0334" if order > 1 else "\u0301" + character
        if order and newest == character and apply["NFD"](swapped) == swapped:
            later.add(code)
    # Parts of new compositions, unless they were there before in another one.
    for code in CODES:
        if code not in later:
            parts.difference_update(map(ord, apply["NFD"](chr(code)) if
                                        apply["NFD"](chr(code)) != chr(code) else ""))
    return later | parts


def ranges(codes):
    result = []
    for code in sorted(codes):
        if result and result[-1][1] == code - 1:
            result[-1][1] = code
        else:
            result.append([code, code])
    return result


def category_runs():
    of = dict.fromkeys(range(0xD800, 0xE000), CATEGORIES.index("Cs"))
    for index, name in enumerate(CATEGORIES):
        if name != "Cs":
            of.update(dict.fromkeys(in_category(name), index))
    runs = []
    for code in range(0x110000):
        if runs and runs[-1][1] == of[code]:
            runs[-1][0] += 1
        else:
            runs.append([1, of[code]])
    return [length << 5 | index for length, index in runs]


def lower_case():
    """(first, last, step, distance): runs of one-to-one mappings."""
    lower = normalizers.Lowercase().normalize_str
    mapped = {c: lower(chr(c)) for c in CODES if lower(chr(c)) != chr(c)}
    assert [c for c in mapped if len(mapped[c]) > 1] == [0x130]
    runs = []
    for code in sorted(set(mapped) - {0x130}):
        distance = ord(mapped[code]) - code
        if runs and runs[-1][3] == distance:
            first, last, step, _ = runs[-1]
            if code - last <= 2 and (first == last or code - last == step):
                runs[-1][1:3] = [code, code - last]
                continue
        runs.append([code, code, 1, distance])
    return runs


def filled(items):
    lines, line = [], "   "
    for item in items:
        if len(line) + len(item) + 2 > 99:
            lines.append(line)
            line = "   "
        line += " " + item + ","
    return "\n".join([*lines, line])


def table(type_name, name, items):
    print(f"\nconst {type_name} {name}[] = {{\n{filled(items)}\n}};")
    print(f"const size_t {name}Size = sizeof {name} / sizeof *{name};")


def range_table(name, codes):
    table("CodeRange", name, ["{0x%X, 0x%X}" % (first, last) for first, last in ranges(codes)])


def main():
    print("// Written by scripts/unicode_tables.py, which says what it is.\n\n"
          '#include "engine/tokenizer/unicode_tables.h"\n\nnamespace hone::engine {\n\n'
          "// clang-format off")
    table("uint32_t", "kCategoryRuns", map(str, category_runs()))
    digits = pre_tokenizers.Digits()
    range_table("kNumbers", {c for c in CODES if len(digits.pre_tokenize_str("a" + chr(c))) > 1})
    range_table("kPunctuation", set(CODES) - kept_by(pre_tokenizers.Punctuation("removed")))
    strip = normalizers.StripAccents().normalize_str
    range_table("kCombiningMarks", {c for c in CODES if strip(chr(c)) == ""})
    range_table("kLaterThanForms", later_than_nfc())
    table("LowerCase", "kLowerCase", ["{0x%X, 0x%X, %d, %d}" % tuple(run) for run in lower_case()])
    print("// clang-format on\n\n}  // namespace hone::engine")


main()
