// Work of many kinds with a result that is always the same.
const crypto = require('crypto');
const zlib = require('zlib');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const { execFileSync } = require('child_process');

function work(seed) {
  const hash = crypto.createHash('sha256');
  const buffers = [];
  for (let i = 0; i < 40000; i++) {
    buffers[i * seed % 3001] = Buffer.alloc(i * seed % 9000, i & 255);
    if (i % 5000 === 0 && global.gc) global.gc();
  }
  for (const buffer of buffers) if (buffer) hash.update(buffer);
  const counts = {};
  for (let i = 0; i < 300000; i++) counts['k' + i * seed % 5003] = (counts['k' + i % 977] || 0) + i;
  const text = JSON.stringify(counts);
  const packed = zlib.gzipSync(text, { level: 6 });
  hash.update(zlib.gunzipSync(packed));
  hash.update(text.replace(/(\d)(\d)/g, '$2$1'));
  hash.update(crypto.pbkdf2Sync('p', 's' + seed, 20000, 64, 'sha512'));
  return hash.digest('hex');
}

if (!isMainThread) {
  parentPort.postMessage(work(workerData));
} else {
  const results = [];
  const workers = [1, 2, 3, 4].map((seed) => new Promise((resolve, reject) => {
    const worker = new Worker(__filename, { workerData: seed });
    worker.on('message', resolve).on('error', reject);
  }));
  for (let i = 0; i < 10; i++) results.push(execFileSync('echo', ['hello ' + i]).toString());
  Promise.all(workers).then((all) => {
    console.log(results.join('') + all.join('\n') + '\n' + work(5));
  });
}
