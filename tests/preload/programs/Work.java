import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.zip.Deflater;
import java.util.zip.Inflater;

/** Work of many kinds with a result that is always the same. */
public class Work {
    static String work(int seed) throws Exception {
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        ByteBuffer[] buffers = new ByteBuffer[64];
        for (int i = 0; i < 4000; i++) {
            ByteBuffer buffer = ByteBuffer.allocateDirect(1 + i * seed % 100000);
            buffer.put(0, (byte) i);
            buffers[i % buffers.length] = buffer;
        }
        for (ByteBuffer buffer : buffers) {
            digest.update(buffer);
        }
        Map<String, List<Integer>> lists = new HashMap<>();
        for (int i = 0; i < 200000; i++) {
            lists.computeIfAbsent("key" + i * seed % 997, key -> new ArrayList<>()).add(i);
        }
        byte[] text = lists.toString().getBytes();
        byte[] packed = new byte[text.length + 100];
        Deflater deflater = new Deflater();
        deflater.setInput(text);
        deflater.finish();
        int length = deflater.deflate(packed);
        deflater.end();
        Inflater inflater = new Inflater();
        inflater.setInput(packed, 0, length);
        byte[] back = new byte[text.length];
        inflater.inflate(back);
        inflater.end();
        digest.update(back);
        StringBuilder hex = new StringBuilder();
        for (byte b : digest.digest()) {
            hex.append(String.format("%02x", b));
        }
        return hex.toString();
    }

    public static void main(String[] arguments) throws Exception {
        String[] results = new String[6];
        Thread[] threads = new Thread[results.length];
        for (int i = 0; i < threads.length; i++) {
            final int seed = i + 1;
            threads[i] = new Thread(() -> {
                try {
                    results[seed - 1] = work(seed);
                } catch (Exception error) {
                    throw new RuntimeException(error);
                }
            });
            threads[i].start();
        }
        for (Thread thread : threads) {
            thread.join();
        }
        System.out.println(String.join("\n", results));
    }
}
