"use strict";
// Runs the network of a page: node -e html_step.js PAGE. On standard input are, again and again, an
// id (int32) and the states (float32); on standard output, the number of values that follow, and the
// logits and the new states.
const fs = require("fs");
const page = fs.readFileSync(process.argv[1], "utf8");
const block = (name) => page.match(new RegExp(`id="${name}">([^]*?)</script>`))[1];
const { Network, unpack } = new Function(block("worker") + "\nreturn { Network, unpack };")();
const { about, manifest } = JSON.parse(block("data"));
const bytes = (name) => Uint8Array.from(Buffer.from(block(name), "base64")).buffer;
const network = new Network(about, unpack(manifest, bytes("weights")), bytes("wasm"));
const units = about.model.units, size = 4 * (1 + units * network.states.length);
const message = Buffer.alloc(size);

function fill() {
  for (let done = 0; done < size; ) {
    let count = 0;
    try {
      count = fs.readSync(0, message, done, size - done);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
      continue;
    }
    if (!count) return false;
    done += count;
  }
  return true;
}

while (fill()) {
  const values = new Float32Array(message.buffer.slice(message.byteOffset, message.byteOffset + size));
  network.states.forEach((state, n) => state.set(values.subarray(1 + n * units, 1 + (n + 1) * units)));
  network.read(message.readInt32LE(0));
  const answer = Float32Array.of(0, ...network.logits, ...network.states.flatMap((s) => [...s]));
  new Int32Array(answer.buffer)[0] = answer.length - 1;
  const bytes = Buffer.from(answer.buffer);
  for (let done = 0; done < bytes.length; ) done += fs.writeSync(1, bytes, done);
}
