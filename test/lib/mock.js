// A gateway that knows nothing of the extension: node mock.js.  It prints its URL, and ends with its standard input.
//   POST /mock/rules     a list of {match, status, type, body}: the answer to requests whose URL or body holds match
//   GET  /mock/requests  what has arrived: of each its method, its URL as it came, its headers, and its body as text
// The first rule that matches counts, of the newest list; what none matches is answered with 599.
const http = require('http');
let rules = [];
const requests = [];

function answer(request, response, body) {
	if (request.url === '/mock/rules') {
		rules = JSON.parse(body).concat(rules);
		response.end('{}');
	} else if (request.url === '/mock/requests') {
		response.end(JSON.stringify(requests));
	} else {
		const { method, url, headers } = request;
		const rule = rules.find(({ match }) => url.includes(match) || body.includes(match));
		requests.push({ method, url, headers, body });
		response.writeHead(rule ? rule.status : 599, { 'content-type': rule ? rule.type : 'text/plain' });
		response.end(rule ? rule.body : '');
	}
}
const server = http.createServer((request, response) => {
	const parts = [];
	request.on('data', (part) => parts.push(part));
	request.on('end', () => answer(request, response, Buffer.concat(parts).toString('utf8')));
});
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));
process.stdin.on('end', () => process.exit()).resume();
