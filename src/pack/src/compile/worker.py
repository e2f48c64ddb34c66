# Compiles what it reads from stdin: level (1 byte), lengths of path and source (4 bytes
# each, little endian), path, source. Answers on stdout: `C` or `E`, a length, and the
# marshalled code or the text of the error. Ends with its input.
import gc
import marshal
import sys

requests, replies = sys.stdin.buffer, sys.stdout.buffer
sys.stdout = sys.stderr
gc.disable()
replies.write(b"pyb\n")
replies.flush()
while True:
    head = requests.read(9)
    if len(head) < 9:
        break
    path = requests.read(int.from_bytes(head[1:5], "little"))
    source = requests.read(int.from_bytes(head[5:9], "little"))
    try:
        # As importlib's source_to_code: bytes, so that the encoding is the parser's affair.
        code = compile(
            source,
            path.decode("utf-8", "surrogateescape"),
            "exec",
            dont_inherit=True,
            optimize=head[0],
        )
        kind, reply = b"C", marshal.dumps(code)
    except Exception as error:
        text = "%s: %s" % (type(error).__name__, error)
        kind, reply = b"E", text.encode("utf-8", "backslashreplace")
    replies.write(kind + len(reply).to_bytes(4, "little"))
    replies.write(reply)
    replies.flush()
