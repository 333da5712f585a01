// The step in Node.js, after html_step.js. On standard input are, again and again, the number of
// bytes that follow (int32), an id (int32) and the states; on standard output, the number of values
// that follow (int32), the logits and the new states.
const fs = require("fs");
const { step } = pageStep(fs.readFileSync(process.argv[1], "utf8"));

function read(size) {
  const bytes = new Uint8Array(size);
  for (let done = 0; done < size; ) {
    let count = 0;
    try {
      count = fs.readSync(0, bytes, done, size - done);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
      continue;
    }
    if (!count) return null;
    done += count;
  }
  return bytes.buffer;
}

function write(array) {
  const bytes = Buffer.from(array.buffer);
  for (let done = 0; done < bytes.length; ) done += fs.writeSync(1, bytes, done);
}

for (let size; (size = read(4)); ) {
  const message = read(new Int32Array(size)[0]);
  const answer = step(new Int32Array(message, 0, 1)[0], new Float32Array(message, 4));
  write(Int32Array.of(answer.length));
  write(answer);
}
