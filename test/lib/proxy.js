// A proxy that wants credentials: node proxy.js USER:PASSWORD.  Prints its URL; ends with its standard input.  It refuses
// the port 1 with 403.
const http = require('http');
const net = require('net');
const wanted = 'Basic ' + Buffer.from(process.argv[2]).toString('base64');
const server = http.createServer();

server.on('connect', (request, client) => {
	const refuse = (status) => client.end(`HTTP/1.1 ${status} No\r\nContent-Length: 0\r\n\r\n`);
	client.on('error', () => {});
	if (request.headers['proxy-authorization'] !== wanted) return refuse(407);
	if (request.url.endsWith(':1')) return refuse(403);
	const [host, port] = request.url.split(':');
	const upstream = net.connect(port, host, () => {
		client.write('HTTP/1.1 200 OK\r\n\r\n');
		upstream.pipe(client).pipe(upstream);
	});
	upstream.on('error', () => client.destroy());
});
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));
process.stdin.on('end', () => process.exit()).resume();
