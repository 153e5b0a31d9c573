# SPDX-License-Identifier: Apache-2.0
"""Prints the protocol's test vectors as a C header. The argument is the folder of the JSON files."""

import json
import pathlib
import sys


def expand(text):
    data = b""
    for part in text.split():
        digits, _, times = part.partition("*")
        data += bytes.fromhex(digits) * int(times or 1)
    return data


def literal(data):
    """An initializer of bytes, which is never empty, and the size."""
    return "(const unsigned char[]){%s}, %d" % (",".join(map(str, data or b"\0")), len(data))


def load(name):
    return json.loads((pathlib.Path(sys.argv[1]) / name).read_text())


print("typedef struct { const unsigned char *data; size_t size; } vector_bytes;")
print("static const struct { const char *name; vector_bytes bytes; size_t limit; const char *end; size_t count;"
      " vector_bytes messages[8]; } frame_vectors[] = {")
for v in load("frames.json")["vectors"]:
    messages = ", ".join("{%s}" % literal(expand(m)) for m in v["messages"])
    print("{%s, {%s}, %d, %s, %d, {%s}}," % (json.dumps(v["name"]), literal(expand(v["bytes"])),
          v.get("limit", 10 << 20), json.dumps(v["end"]), len(v["messages"]), messages or "{NULL, 0}"))
print("};")

print("static const struct { const char *name; vector_bytes bytes; int report, foreign; uint64_t reason, next, skipped,"
      " limit; } goodbye_vectors[] = {")
for v in load("goodbye.json"):
    report = v.get("report", {})
    print("{%s, {%s}, %d, %d, %d, %d, %d, %d}," % (json.dumps(v["what"]), literal(expand(v["bytes"])), "report" in v,
          v.get("foreign", False), report.get("reason", 0), report.get("next", 0), report.get("skipped", 0),
          report.get("limit", 0)))
print("};")

print("static const struct { const char *name; vector_bytes bytes; char kind; uint64_t fields[4]; vector_bytes writer;"
      " size_t count; int64_t acks[8]; } session_vectors[] = {")
for v in load("session.json"):
    kind, fields, writer, acks = "x", [], b"", []
    if "hello" in v:
        h = v["hello"]
        kind, writer = "h", bytes.fromhex(h["writer"])
        fields = [h["epoch"], h["first"], h["sent"], h["heartbeat_timeout_ms"]]
    elif "welcome" in v:
        w = v["welcome"]
        kind, fields = "w", [w["status"], w["handled"], w["limit"], w["heartbeat_timeout_ms"]]
    elif "back" in v:
        kind = "b"
        acks = [{"heartbeat": -1, "goodbye": 0}.get(a, a) for a in v["back"]]
    elif "invalid" in v:
        kind = v["invalid"][0].upper()
    print("{%s, {%s}, '%s', {%s}, {%s}, %d, {%s}}," % (json.dumps(v["what"]), literal(expand(v["bytes"])), kind,
          ",".join("%du" % f for f in fields) or "0", literal(writer), len(acks), ",".join(map(str, acks)) or "0"))
print("};")
