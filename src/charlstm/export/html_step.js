"use strict";
// The network of a page, given as text: a function from an id and the states (float32, one after the
// other) to the logits and the new states.
function pageStep(page) {
  const block = (name) => page.match(new RegExp(`id="${name}">([^]*?)</script>`))[1];
  const { Network, unpack } = new Function(block("worker") + "\nreturn { Network, unpack };")();
  const { about, manifest } = JSON.parse(block("data"));
  const network = new Network(about, unpack(manifest, decoded(block("weights"))), decoded(block("wasm")));
  const units = about.model.units;
  return (id, states) => {
    network.states.forEach((state, n) => state.set(states.subarray(n * units, (n + 1) * units)));
    network.read(id);
    return Float32Array.of(...network.logits, ...network.states.flatMap((state) => [...state]));
  };
}

function decoded(base64) {
  const content = atob(base64), bytes = new Uint8Array(content.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = content.charCodeAt(i);
  return bytes.buffer;
}

function encoded(array) {
  let content = "";
  for (const byte of new Uint8Array(array.buffer)) content += String.fromCharCode(byte);
  return btoa(content);
}
