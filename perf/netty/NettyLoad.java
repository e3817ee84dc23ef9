import io.netty.buffer.ByteBuf;
import io.netty.buffer.PooledByteBufAllocator;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;

/**
 * Netty's side of perf/netty.py: allocates and releases pooled direct buffers as load.c does with
 * berth, and prints processor time per operation and what the pool uses.
 *
 * NettyLoad pair SIZE THREADS OPERATIONS | NettyLoad live SLOTS THREADS OPERATIONS < sizes
 *
 * Input for live: one size per line, drawn from in turn by a generator that both sides share.
 */
final class NettyLoad {
    private static final PooledByteBufAllocator ALLOCATOR = PooledByteBufAllocator.DEFAULT;
    private static final ThreadMXBean THREADS = ManagementFactory.getThreadMXBean();

    /** What one thread did. */
    private static final class Worker extends Thread {
        private final boolean isPair;
        private final int number; // bytes, or slots
        private final long operations;
        private final int[] sizes;
        private long state;
        long nanoseconds;
        long liveBytes;
        ByteBuf[] slots;

        Worker(boolean isPair, int number, long operations, int[] sizes, int seed) {
            this.isPair = isPair;
            this.number = number;
            this.operations = operations;
            this.sizes = sizes;
            this.state = seed;
        }

        private int below(int bound) {
            state = state * 6364136223846793005L + 1442695040888963407L;
            return (int) (((state >>> 33) * bound) >>> 31);
        }

        private void pairs(long count) {
            for (long i = 0; i < count; i++) {
                ByteBuf buffer = ALLOCATOR.directBuffer(number, number);
                buffer.setByte(0, 1);
                buffer.release();
            }
        }

        private ByteBuf draw() {
            int size = sizes[below(sizes.length)];
            ByteBuf buffer = ALLOCATOR.directBuffer(size, size);
            buffer.setByte(0, 1);
            liveBytes += size;
            return buffer;
        }

        private void replacements(long count) {
            for (long i = 0; i < count; i++) {
                int slot = below(number);
                liveBytes -= slots[slot].capacity();
                slots[slot].release();
                slots[slot] = draw();
            }
        }

        @Override
        public void run() {
            if (!isPair) {
                slots = new ByteBuf[number];
                for (int i = 0; i < number; i++) {
                    slots[i] = draw();
                }
            }
            for (int round = 0; round < 2; round++) { // the first one warms up
                long count = round == 0 ? operations / 2 : operations;
                long start = THREADS.getCurrentThreadCpuTime();
                if (isPair) {
                    pairs(count);
                } else {
                    replacements(count);
                }
                nanoseconds = THREADS.getCurrentThreadCpuTime() - start;
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        boolean isPair = arguments[0].equals("pair");
        int number = Integer.parseInt(arguments[1]);
        int threads = Integer.parseInt(arguments[2]);
        long operations = Long.parseLong(arguments[3]);
        int[] sizes = isPair ? null
            : new java.io.BufferedReader(new java.io.InputStreamReader(System.in))
                .lines().mapToInt(Integer::parseInt).toArray();
        Worker[] workers = new Worker[threads];
        for (int i = 0; i < threads; i++) {
            workers[i] = new Worker(isPair, number, operations, sizes, i + 1);
            workers[i].start();
        }
        double nanoseconds = 0;
        long live = 0;
        for (Worker worker : workers) {
            worker.join();
            nanoseconds += (double) worker.nanoseconds / operations / threads;
            live += worker.liveBytes;
        }
        System.out.printf("{\"ns\": %.2f, \"used\": %d, \"live\": %d}%n", nanoseconds,
            ALLOCATOR.metric().usedDirectMemory(), live);
    }

    private NettyLoad() {
    }
}
