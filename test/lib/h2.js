// Plays eSMS over TLS with HTTP/2 (and HTTP/1.1), badly: node h2.js KEY CERTIFICATE MODE.  Prints its URL, and at its end
// (of standard input) nothing.  Its GET /stats tells how many requests of which version were read, and on how many
// connections.  Modes:
//   goaway   each connection takes 20 streams, then says GOAWAY; what comes after was not processed
//   refuse   each fiftieth stream is refused before it is read
//   early    answers before it has read the body, and resets the stream
//   slow     takes 128 streams a connection, as nginx does, and answers after half a second
//   plain    as it should be
const http2 = require('http2');
const fs = require('fs');
const [key, cert, mode] = process.argv.slice(2);
const seen = { 1: 0, 2: 0, connections: 0, streams: 0, most: 0 };
let open = 0;
const server = http2.createSecureServer({ key: fs.readFileSync(key), cert: fs.readFileSync(cert), allowHTTP1: true,
	settings: { maxConcurrentStreams: mode === 'slow' ? 128 : 1000 } });
const answer = JSON.stringify({ CodeResult: '100', CountRegenerate: 0, SMSID: 'id-1', status: '1', code: 'Success',
	idOmniMess: 'm' });
const REFUSED = 7, INTERNAL = 2;
let n = 0;

server.on('session', (session) => {
	seen.connections++;
	session.taken = 0;
	session.on('error', () => {});
});
server.on('stream', (stream, headers) => {
	const session = stream.session;
	stream.on('error', () => {});
	if (headers[':path'] === '/stats') {
		stream.respond({ ':status': 200 });
		stream.end(JSON.stringify(seen));
		return;
	}
	seen.streams++;
	seen.most = Math.max(seen.most, ++open);
	stream.on('close', () => open--);
	if (mode === 'refuse' && ++n % 50 === 0) {
		stream.close(REFUSED);
		return;
	}
	if (mode === 'goaway') {
		if (session.last && stream.id > session.last) {
			stream.close(REFUSED);
			return;
		}
		if (++session.taken === 20) {
			session.last = stream.id;
			session.goaway(0, stream.id);
		}
	}
	seen[2]++;
	if (mode === 'early') {
		stream.respond({ ':status': 200, 'content-type': 'application/json', 'content-length': answer.length });
		stream.write(answer, () => setImmediate(() => stream.close(INTERNAL)));
		return;
	}
	stream.resume();
	stream.on('end', () => setTimeout(() => {
		stream.respond({ ':status': 200, 'content-type': 'application/json' });
		stream.end(answer);
	}, mode === 'slow' ? 500 : 0));
});
server.on('request', (request, response) => {
	if (request.httpVersionMajor === 2)
		return;
	request.resume();
	request.on('end', () => {
		if (request.url !== '/stats')
			seen[1]++;
		response.end(request.url === '/stats' ? JSON.stringify(seen) : answer);
	});
});
server.on('secureConnection', (socket) => socket.on('error', () => {}));
server.listen(0, '127.0.0.1', () => console.log(`https://127.0.0.1:${server.address().port}`));
process.stdin.on('end', () => process.exit()).resume();
