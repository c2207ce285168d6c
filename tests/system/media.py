"""Test clips, and real ffmpeg and rtmpdump as encoders and players."""

import collections
import signal

import procs
import rtmp

Packet = collections.namedtuple("Packet", "stream dts pts size hash")
Tag = collections.namedtuple("Tag", "type ts payload")
FFMPEG = "/usr/bin/ffmpeg"


def make_clip(path, seconds=6, rate=25, size="320x240", gop=25, bitrate="300k", bframes=0, noise=False):
    """H.264 and AAC in FLV; a keyframe every `gop` frames. noise: a picture that really needs the bitrate."""
    argv = [FFMPEG, "-nostdin", "-loglevel", "error", "-y"]
    argv += ["-f", "lavfi", "-i", f"testsrc=size={size}:rate={rate}:duration={seconds}"]
    argv += ["-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=44100:duration={seconds}"]
    argv += ["-vf", "noise=alls=60:allf=t"] if noise else []
    argv += ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-b:v", bitrate, "-g", str(gop)]
    argv += ["-keyint_min", str(gop), "-sc_threshold", "0", "-bf", str(bframes), "-threads", "1"]
    argv += ["-c:a", "aac", "-b:a", "64k", "-f", "flv", str(path)]
    result = procs.run(argv, timeout=120)
    assert result.returncode == 0, result.stderr
    return path


def flv_tags(data):
    """Of a whole FLV file."""
    at = int.from_bytes(data[5:9], "big") + 4
    tags = []
    while at + 11 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        ts = int.from_bytes(data[at + 4 : at + 7], "big") | data[at + 7] << 24
        tags.append(Tag(data[at] & 0x1F, ts, bytes(data[at + 11 : at + 11 + size])))
        at += 11 + size + 4
    return tags


def is_sequence_header(tag):
    return (tag.type == rtmp.VIDEO and tag.payload[0] & 0x0F == 7 and tag.payload[1] == 0) or (
        tag.type == rtmp.AUDIO and tag.payload[0] >> 4 == 10 and tag.payload[1] == 0
    )


def is_keyframe(tag):
    return tag.type == rtmp.VIDEO and tag.payload[0] == 0x17 and tag.payload[1] == 1


class Clip:
    def __init__(self, path):
        self.path = str(path)
        with open(path, "rb") as f:
            self.tags = flv_tags(f.read())
        self.media = [t for t in self.tags if t.type in (rtmp.AUDIO, rtmp.VIDEO)]
        self.headers = [t for t in self.media if is_sequence_header(t)]
        self.frames = [t for t in self.media if not is_sequence_header(t)]

    def messages(self, msid=1, offset=0):
        """As a publisher sends them: onMetaData first, then everything with time `offset` added."""
        out = []
        for t in self.tags:
            csid = {rtmp.AUDIO: 4, rtmp.VIDEO: 6}.get(t.type, 4)
            payload = t.payload
            if t.type == rtmp.DATA:
                payload = rtmp.amf_encode("@setDataFrame") + payload
            out.append(rtmp.Message(t.type, payload, msid, (t.ts + offset) % 2**32, csid))
        return out


class Publisher(procs.Proc):
    """ffmpeg in real time. Its progress lines are the events: one with frame=N, N > 0, means that media went out."""

    def __init__(self, url, clip, loop=True, options=()):
        argv = [FFMPEG, "-nostdin", "-hide_banner", "-loglevel", "warning", "-progress", "pipe:1", "-stats_period", "0.1"]
        argv += ["-re", *(["-stream_loop", "-1"] if loop else []), "-i", clip.path, *options]
        argv += ["-c", "copy", "-f", "flv", url]
        self.url = url
        super().__init__(argv, name=f"publish {url}")

    def wait_sending(self, frames=1, timeout=procs.DEADLINE):
        def enough(line):
            return line.startswith("frame=") and int(line[6:]) >= frames

        self.out.wait(enough, timeout, since=len(self.out), what=self.name + ": " + self.err.tail())
        return self

    def finish(self, timeout=procs.DEADLINE):
        """Ends as an encoder does whose operator presses stop: FCUnpublish, deleteStream, close."""
        if self.running:
            self.signal(signal.SIGINT)
        return self.wait(timeout)


class Player(procs.Proc):
    """ffmpeg that hashes each packet it receives, with the times as they came. Packets are in .packets."""

    def __init__(self, url, options=()):
        self.packets = procs.Lines()
        argv = [FFMPEG, "-nostdin", "-hide_banner", "-loglevel", "warning", "-copyts", *options, "-i", url]
        argv += ["-c", "copy", "-copyts", "-flush_packets", "1", "-f", "framehash", "-hash", "md5", "-"]
        super().__init__(argv, name=f"play {url}", reader=self._read)

    def _read(self, file):
        for raw in file:
            if raw[:1] == b"#":
                continue
            # more columns follow where the stream's headers came again
            stream, dts, pts, _, size, digest = (f.strip() for f in raw.decode().split(",")[:6])
            self.packets.add(Packet(int(stream), int(dts), int(pts), int(size), digest))
        self.packets.end()

    def wait_packets(self, count, timeout=procs.DEADLINE):
        try:
            return self.packets.wait_count(count, timeout, what=f"packets of {self.name}")
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.err.tail()}") from None

    def count(self):
        return len(self.packets)


class Rtmpdump(procs.Proc):
    """rtmpdump as a live player; the FLV tags it writes are in .tags."""

    def __init__(self, url, options=("--live",)):
        self.tags = procs.Lines()
        super().__init__(["/usr/bin/rtmpdump", "-r", url, *options, "-o", "-"], name=f"rtmpdump {url}", reader=self._read)

    def _read(self, file):
        data = file.read(13)
        while len(data) == 13:
            head = file.read(11)
            if len(head) < 11:
                break
            size = int.from_bytes(head[1:4], "big")
            body = file.read(size + 4)
            if len(body) < size + 4:
                break
            ts = int.from_bytes(head[4:7], "big") | head[7] << 24
            self.tags.add(Tag(head[0] & 0x1F, ts, body[:size]))
        self.tags.end()

    def wait_tags(self, count, timeout=procs.DEADLINE):
        try:
            return self.tags.wait_count(count, timeout, what=f"tags of {self.name}")
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.err.tail()}") from None


def by_stream(packets):
    found = collections.defaultdict(list)
    for p in packets:
        found[p.stream].append(p)
    return found


def in_common(one, other):
    """{stream: (packets of the one, packets of the other)} of the times that both players have."""
    ones, others = by_stream(one.packets.items[:]), by_stream(other.packets.items[:])
    found = {}
    for stream in {*ones, *others}:
        if stream in ones and stream in others:
            first = max(ones[stream][0].dts, others[stream][0].dts)
            last = min(ones[stream][-1].dts, others[stream][-1].dts)
            found[stream] = tuple([p for p in x[stream] if first <= p.dts <= last] for x in (ones, others))
        else:
            found[stream] = ([], [])
    return found


def assert_same_stream(one, other, at_least=20):
    """Two players of one stream: where their times overlap they received the same packets, bit for bit and with the same times.
    Which of them joined first does not matter; they go on until they have enough in common."""

    def enough():
        found = in_common(one, other)
        return found if found and all(len(a) >= at_least for a, _ in found.values()) else None

    for stream, (a, b) in procs.eventually(enough, what="packets in common", every=0.1).items():
        assert a == b, f"stream {stream} differs first at {next((x, y) for x, y in zip(a, b) if x != y)}"


def clip_packets(clip):
    """What ffmpeg's demuxer hands out for the clip itself: {hash: is keyframe} of its video."""
    argv = [FFMPEG, "-nostdin", "-loglevel", "error", "-i", clip.path, "-map", "0:v", "-c", "copy"]
    result = procs.run([*argv, "-f", "framehash", "-hash", "md5", "-"])
    hashes = [line.split(",")[5].strip() for line in result.stdout.splitlines() if not line.startswith("#")]
    keys = [is_keyframe(t) for t in clip.frames if t.type == rtmp.VIDEO and t.payload[1] == 1]
    assert len(hashes) == len(keys)
    return dict(zip(hashes, keys))


def assert_starts_at_keyframe(packets, keys, video=0):
    first = next(p for p in packets if p.stream == video)
    assert keys.get(first.hash), f"the first video packet is not a keyframe of the clip: {first}"
